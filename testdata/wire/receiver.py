"""A receiver on an ASGI server: uvicorn receiver:app. It prints what it reads."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    headers = dict(scope["headers"])
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    print(scope["method"], target.decode(), headers[b"host"].decode(), length, headers[b"webhook-id"].decode(), scope["client"][1], sep="\t", flush=True)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
