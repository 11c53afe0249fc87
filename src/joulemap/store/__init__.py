"""The run store on disk, its importers and its exporters."""
