"""A mock of an OpenAI-compatible streaming server: settable latencies, settable faults, known truth.

It streams at stated times from one thread, so that a load client can be checked against the truth, and it
misbehaves on request, so that each fault of a real server can be rehearsed. It serves ``/v1/models``,
``/v1/chat/completions``, ``/v1/completions``, ``/v1/images/generations``, a vLLM-like ``/metrics``, and
``/mock/stats`` with what it truly sent and when. It listens on the loopback interface only::

    python -m joulemap.measure.mock_server --port 8000 --ttft-s 0.2 --itl-s 0.02
"""

from joulemap.measure.mock_server.behaviour import Fault, MockBehaviour
from joulemap.measure.mock_server.process import MockServerProcess

__all__ = ["Fault", "MockBehaviour", "MockServerProcess"]
