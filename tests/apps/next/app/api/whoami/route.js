// Who is logged in: what `auth.check` asks.
export function GET(request) {
  const user = request.cookies.get("session")?.value;
  return new Response(null, { status: user ? 200 : 401, headers: user ? { "X-User-Id": user } : {} });
}
