import Counter from "../../counter";

export default async function Post({ params }) {
  return (
    <main>
      <p>{(await params).slug} of SPILLWAY-BUNDLES-1</p>
      <Counter />
    </main>
  );
}
