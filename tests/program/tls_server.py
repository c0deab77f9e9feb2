"""A TLS server as old gateways are, which rustls cannot be.

It answers each request as a gateway does that has no session for it. Arguments: the files of the
certificate and its key, the version of TLS ("1.2 PSS": with the newer kind of RSA signatures), and the
only curve for the exchange of keys, if any.
"""

import socket
import ssl
import sys
import threading

BODY = b'{"message":"no session","retcode":"100-006","result":{}}'


def answer(stream):
    try:
        with context.wrap_socket(stream, server_side=True) as tls:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    byte = tls.recv(1)
                    if not byte:
                        return
                    head += byte
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
    except OSError:
        pass  # A client that refuses the handshake.


certificate, key, version, *curve = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
# Newer libraries refuse short keys otherwise.
context.set_ciphers("DEFAULT@SECLEVEL=0")
context.load_cert_chain(certificate, key)
if version.startswith("1.2"):
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # The server's order has PSS first. Old libraries do not have it.
    if not version.endswith("PSS"):
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
else:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
for name in curve:
    context.set_ecdh_curve(name)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()
