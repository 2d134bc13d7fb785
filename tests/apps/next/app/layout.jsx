import Link from "next/link";

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <nav><Link href="/">home</Link> <Link href="/blog/first" id="first">first</Link></nav>
        {children}
      </body>
    </html>
  );
}
