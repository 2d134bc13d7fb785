import { Suspense } from "react";

export const dynamic = "force-dynamic";

async function Late() {
  await new Promise((done) => setTimeout(done, 500));
  return <p>late</p>;
}

export default function Page() {
  return <main><h1>early</h1><Suspense fallback={<p>wait</p>}><Late /></Suspense></main>;
}
