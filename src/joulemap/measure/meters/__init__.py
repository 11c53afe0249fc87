"""Power and energy meters behind one Protocol, the sampler that reads them, and energies over windows."""
