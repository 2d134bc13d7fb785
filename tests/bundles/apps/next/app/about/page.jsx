import Counter from "../counter";

export default function About() {
  return (
    <main>
      <p>About SPILLWAY-BUNDLES-1</p>
      <Counter />
    </main>
  );
}
