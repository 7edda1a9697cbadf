"""The entry point of `python -m wavekv.compaction`, which the member starts beside itself."""

import sys

from wavekv.compaction.worker import main

if __name__ == "__main__":
    sys.exit(main())
