"""The load client: asks a server for work at a stated concurrency or rate, and times every chunk of the replies.

``plan`` says what to ask; ``client`` asks it from one event loop, over ``connection``; ``handle`` spreads a
plan over worker processes and merges what they saw into a ``result``, which ``window`` evaluates.
"""
