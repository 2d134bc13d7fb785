import "./style.css";

export const metadata = { title: "SPILLWAY-BUNDLES-1" };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
