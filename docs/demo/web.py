"""The shop's web server: the worker takes an order from it, and reports when the order is done."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = b""
        if self.path != "/":
            with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as store:
                store.sendall(self.path[1:].encode())
                answer = store.recv(100)
            print(f"GET {self.path} \x1b[32m200\x1b[0m")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Shop)
print(f"http://127.0.0.1:{sys.argv[1]}")
server.serve_forever()
