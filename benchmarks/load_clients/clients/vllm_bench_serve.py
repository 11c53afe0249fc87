"""``vllm bench serve``, called as its command calls it.

The command itself looks up the version of a package named ``vllm``, which the build for CPUs is not.
"""

from vllm import platforms  # type: ignore[import-not-found]
from vllm.benchmarks.serve import add_cli_args, main  # type: ignore[import-not-found]
from vllm.platforms.cpu import CpuPlatform  # type: ignore[import-not-found]
from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

if platforms.current_platform.is_unspecified():
    platforms.current_platform = CpuPlatform()
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
