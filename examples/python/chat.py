#!/usr/bin/env python3
"""A Hawser client in Python, written from docs/protocol.md alone; it speaks hawser.v1+json.

    chat.py --user alice --to bob --say "hello" --expect 2

Logs in (demo), connects, sends each --say to the chat, prints what arrives and acknowledges it. Ends with 0 when every
Send is "sent" and --expect messages of others have come, with 1 after --timeout seconds. Needs: pip install websockets
"""
import argparse, asyncio, json, os, sys, time, urllib.request
import websockets

args = argparse.ArgumentParser()
args.add_argument("--http", default=os.environ.get("HAWSER_HTTP", "http://127.0.0.1:8080"))
args.add_argument("--user", required=True)
args.add_argument("--to", required=True, help="a user, or a group g:...")
args.add_argument("--say", action="append", default=[])
args.add_argument("--expect", type=int, default=0, help="messages of others to wait for")
args.add_argument("--timeout", type=float, default=20)
args = args.parse_args()
device = f"python-{os.getpid()}"
chat = args.to if args.to.startswith("g:") else "dm:" + ":".join(sorted([args.user, args.to]))


def login():
    body = json.dumps({"user": args.user, "device": device}).encode()
    request = urllib.request.Request(args.http + "/v1/demo/login", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["token"]


def uuid7(ms):  # section 2: 48 bits of the server's time, version 7, variant 2, random
    raw = bytearray(ms.to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    h = raw.hex()
    return "-".join([h[:8], h[8:12], h[12:16], h[16:20], h[20:]])


async def main():
    url = args.http.replace("http", "ws", 1) + "/v1/ws"
    async with websockets.connect(url, subprotocols=["hawser.v1+json"]) as ws:
        say = lambda frame: ws.send(json.dumps(frame))
        await say({"type": "hello", "token": login(), "device": device, "client": "example-python/1", "live_only": True})
        skew, unsent, seen = 0, set(), set()
        async for text in ws:
            frame = json.loads(text)
            if frame["type"] == "welcome":
                skew = frame["server_time_ms"] - time.time() * 1000
            elif frame["type"] == "caught_up":  # send now
                print("live", flush=True)
                for body in args.say:
                    id = uuid7(int(time.time() * 1000 + skew))
                    unsent.add(id)
                    await say({"type": "send", "client_msg_id": id, "chat": chat, "body": body})
            elif frame["type"] == "send_result":
                if frame["error"]:
                    sys.exit(f"refused: {frame['name']} {frame['text']}")
                unsent.discard(frame["client_msg_id"])
                print(f"sent {frame['message_id']} as number {frame['ordinal']}", flush=True)
            elif frame["type"] == "deliver" and frame["sender"] != args.user:
                if (frame["chat"], frame["seq"]) not in seen:
                    print(f"{frame['sender']}: {frame.get('body', '(bytes)')}", flush=True)
                seen.add((frame["chat"], frame["seq"]))
            elif frame["type"] == "error":
                print(f"error: {frame['name']} {frame['text']}", file=sys.stderr)
            if frame.get("offset", "0") != "0" and frame["type"] in ("deliver", "send_result", "receipt_update"):
                await say({"type": "ack", "offset": frame["offset"]})  # stored: it is on the screen
            if frame["type"] != "welcome" and not unsent and len(seen) >= args.expect:
                return await say({"type": "bye"})


try:
    asyncio.run(asyncio.wait_for(main(), args.timeout))
except TimeoutError:
    sys.exit(f"{args.user}: not done after {args.timeout} s")
