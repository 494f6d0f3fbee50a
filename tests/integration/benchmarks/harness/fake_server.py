"""A server for tests: fake_server.py PORT right|wrong|slow|ends|dies. Leaves a child behind."""

import http.server
import os
import subprocess
import sys
import time

PORT, BEHAVIOUR = int(sys.argv[1]), sys.argv[2]


class Handler(http.server.BaseHTTPRequestHandler):
    n_answers = 0

    def do_POST(self) -> None:
        Handler.n_answers += 1
        if BEHAVIOUR == "dies" and Handler.n_answers > 2:
            os._exit(1)  # in the middle of a request, once it has answered rightly
        rows = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
        # At first it is not ready; right is the sum of a row.
        status = 503 if Handler.n_answers == 1 else 200
        error = 0.1 if BEHAVIOUR == "wrong" else 0.0
        answer = "\n".join(str(sum(map(float, row.split(","))) + error) for row in rows)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())


if BEHAVIOUR == "ends":
    sys.exit("no model here")
if BEHAVIOUR == "slow":
    time.sleep(0.5)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
