"""Whether the restante in this container lives: exit 0 or 1; asked on its port, or on the one named.

Not readyz: a rejected key or a database that is away for a minute is no reason to kill the container, which would only
interrupt what it still does.
"""

import http.client
import os
import sys

port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RESTANTE_PORT") or 8000)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
try:
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"restante does not answer: {error}")
sys.exit(status != http.client.OK)
