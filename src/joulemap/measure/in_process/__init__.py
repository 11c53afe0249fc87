"""Models that run inside joulemap's own process, for machines without a server.

``static_decode`` repeats one decoding step at a fixed batch and context; ``continuous`` serves requests through
transformers' continuous batching; ``diffusion`` runs a diffusers pipeline. PyTorch is imported only when asked for.
"""
