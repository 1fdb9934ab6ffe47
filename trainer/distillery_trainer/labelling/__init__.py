"""Labelling: an oracle's scores for articles, within a budget, with every call in a ledger.

`labeller.label` runs one command: it reads the `job`, makes its `plan` of questions, lets the `canary` go first, and
writes the `results`. Calls are made, and paid, in two places: `live_calls` and `batch_calls`. Before each one the
`budget` reserves its maximum (`estimate`) and writes it into the `ledger`, an SQLite `database`; `state` reads from the
ledger which questions are answered. `preview` shows a call that is not made.
"""
