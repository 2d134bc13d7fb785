import Image from "next/image";
import Link from "next/link";
import drawing from "./drawing.svg";
import photo from "./photo.png";
import Counter from "./counter";

export default function Page() {
  return (
    <main>
      <Image src={photo} alt="SPILLWAY-BUNDLES-1" />
      <img src={drawing.src} alt="" />
      <Counter />
      <Link href="/about">About</Link>
    </main>
  );
}
