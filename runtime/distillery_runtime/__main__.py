"""`python -m distillery_runtime` is the `distillery` command."""

import sys

from distillery_runtime.cli.main import main

sys.exit(main())
