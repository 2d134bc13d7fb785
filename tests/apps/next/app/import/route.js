// A form's target that is slow, behind a session that any cookie is.
export async function POST(request) {
  const user = request.cookies.get("session")?.value;
  if (!user) return Response.redirect(new URL("/login", request.url), 303);
  return new Response(null, { status: 303, headers: { Location: `/blog/${user}` } });
}
