"""Pack one order after another. An order without a number makes it fail."""

import sys
import time
from urllib.request import urlopen

WEB = f"http://127.0.0.1:{sys.argv[1]}"

while True:
    order = urlopen(f"{WEB}/take").read().decode()
    if not order[0].isdigit():
        sys.exit(f"\x1b[31mhow many are `{order}`?\x1b[0m")
    print(f"packing {order}")
    time.sleep(0.5)
    urlopen(f"{WEB}/done").close()
