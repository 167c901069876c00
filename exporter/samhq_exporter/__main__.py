"""`python -m samhq_exporter` is `samhq-export`."""

import sys

from .cli import main

sys.exit(main())
