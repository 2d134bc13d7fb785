"""A grpcio server behind `--app h2c://…`: unary, streams, metadata in head and trailers, errors."""
import concurrent.futures
import grpc
import queue
import stack


def unary(request, context):
    context.send_initial_metadata([("head", "first")])
    context.set_trailing_metadata([("tail", "last"), ("raw-bin", b"\x00\xff")])
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so, Jürgen: 100 %")
    return request


def numbers(request, _):
    yield from (b"%d" % number for number in range(int(request)))


def total(requests, _):
    return b"%d" % sum(map(int, requests))


def echo(requests, _):
    yield from requests


def serve():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.App", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Numbers": grpc.unary_stream_rpc_method_handler(numbers),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Echo": grpc.stream_stream_rpc_method_handler(echo)})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def undated(metadata):
    """A hop adds the Date that the server left out (RFC 9110, section 6.6.1)."""
    return [pair for pair in metadata if pair[0] != "date"]


def call_unary(channel, request):
    try:
        answer, call = channel.unary_unary("/test.App/Unary").with_call(request, timeout=10)
    except grpc.RpcError as error:
        answer, call = None, error
    return (answer, call.code(), call.details(), undated(call.initial_metadata()),
            list(call.trailing_metadata()))


def rendezvous(channel):
    """Each answer is read before the next request is sent."""
    requests = queue.Queue()
    call, heard = channel.stream_stream("/test.App/Echo")(iter(requests.get, None), timeout=10), []
    for text in [b"one", b"two", b"three"]:
        requests.put(text)
        heard.append(next(call))
    requests.put(None)
    return heard, list(call), call.code()


CALLS = {
    "a unary call has its answer, metadata and trailers": lambda own: call_unary(own, b"hello"),
    "an error keeps status, message and trailers": lambda own: call_unary(own, b"fail"),
    "a message of 1 MiB arrives whole": lambda own: call_unary(own, b"x" * (1 << 20)),
    "a server's stream is whole": lambda own: list(
        own.unary_stream("/test.App/Numbers")(b"500", timeout=10)),
    "a client's stream is whole": lambda own: own.stream_unary("/test.App/Total")(
        iter([b"1", b"2", b"3"]), timeout=10),
    "both speak in turn": rendezvous,
}


def unknown(channel):
    try:
        return channel.unary_unary("/test.App/Nothing")(b"", timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details()


def channel(address):
    options = [("grpc.enable_http_proxy", 0)]
    if isinstance(address, int):
        return grpc.insecure_channel(f"127.0.0.1:{address}", options)
    with open(address[1], "rb") as authority:
        secure = grpc.ssl_channel_credentials(authority.read())
    return grpc.secure_channel(f"localhost:{address[0]}", secure, options)


def checks(own):
    server, port = serve()
    own.before(port, "h2c")
    for way, *addresses in own.pairs():
        direct, through = map(channel, addresses)
        for name, call in {**CALLS, "a method that is not there is refused alike": unknown}.items():
            def fault(call=call):
                one, two = call(direct), call(through)
                return "" if one == two else f"{one!r:.300} without it, {two!r:.300} with it"
            own.check(f"{name}, {way}", fault)
        direct.close()
        through.close()
    server.stop(0)


stack.main("gRPC", checks)
