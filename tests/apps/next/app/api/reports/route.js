// A report that takes more than `after`.
export async function POST(request) {
  const { years } = await request.json();
  await new Promise((done) => setTimeout(done, 2500));
  return Response.json({ of: request.cookies.get("session")?.value, years });
}
