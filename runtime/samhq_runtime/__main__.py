"""`python -m samhq_runtime` is `samhq`."""

import sys

from .cli import main

sys.exit(main())
