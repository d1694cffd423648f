"""A control socket of a test's own, in place of a runner's."""
import socket
import threading


class ControlSocket:
    """Listens from its beginning on; what becomes of a client says meet(), on the listener's thread."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.meet(client)

    def meet(self, client):
        raise NotImplementedError
