"""Keep the orders of the shop, and send the first one to each client that asks."""

import socket
import sys
import time

print("reading the orders")
time.sleep(0.4)
orders = ["1 pot of ink", "2 pencils", "some paper", "3 brushes", "4 frames", "1 easel"]
failures = 0
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print(f"{len(orders)} orders are open")
    while True:
        connection, _ = server.accept()
        with connection:
            match connection.recv(100):
                case b"take":
                    # After two failures a person has to look at the order.
                    if failures == 2:
                        print(f"\x1b[31mput aside: {orders.pop(0)}\x1b[0m")
                        failures = 0
                    connection.sendall(orders[0].encode())
                    failures += 1
                case b"done":
                    orders = [*orders[1:], orders[0]]
                    failures = 0
