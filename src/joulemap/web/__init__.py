"""The web application: server-rendered pages over the run store; needs the extra ``web``."""
