"""Oracles: the LLMs that label, behind one protocol.

`protocol` says what an adapter takes, gives and raises. `providers` holds the adapters, one file for each API; a new
one goes there, and into the tables of `services`, which opens an oracle by name. `http`, `finish`, `reply_schema` and
`credentials` are what adapters share; `prices` and `rates` bound what calls cost and how fast they are made.
"""
