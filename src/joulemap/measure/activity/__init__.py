"""What the GPUs' parts were busy with: multiprocessors, tensor pipes, memory, links."""
