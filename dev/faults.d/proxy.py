"""A TCP proxy with weather: answers that come late, and answers that never come to requests that arrived."""

import asyncio
import threading

CHUNK = 65_536


class Proxy:
    """Between one port of this machine and another. `delay_s` holds back answers; `swallow` drops them."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.delay_s = 0.0
        self.swallow = False
        self.swallowed = 0
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        self.ready.wait(5)

    def _serve(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()

    async def _connected(self, reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, to_writer}
        await asyncio.gather(self._requests(reader, to_writer), self._answers(to_reader, writer))
        self.writers -= {writer, to_writer}

    async def _requests(self, reader, writer):
        try:
            while chunk := await reader.read(CHUNK):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    async def _answers(self, reader, writer):
        """Each chunk goes out its delay after it came, in order; what is behind it is not delayed twice."""
        queue = asyncio.Queue()

        async def out():
            while (item := await queue.get()) is not None:
                due, chunk = item
                await asyncio.sleep(max(0.0, due - self.loop.time()))
                if self.swallow:
                    self.swallowed += len(chunk)
                    continue
                writer.write(chunk)
                await writer.drain()

        sending = asyncio.ensure_future(out())
        try:
            while chunk := await reader.read(CHUNK):
                await queue.put((self.loop.time() + self.delay_s, chunk))
            await queue.put(None)
            await sending
        except OSError:
            sending.cancel()
        writer.transport.abort()

    def cut(self):
        """RST to everybody: a stream that lost bytes cannot go on."""
        def abort():
            for writer in list(self.writers):
                writer.transport.abort()
        self.loop.call_soon_threadsafe(abort)
