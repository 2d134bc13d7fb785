import Counter from "./counter";

// Made at build time, and anew at most once an hour.
export const revalidate = 3600;

export default function Home() {
  return <main><h1>Home</h1><Counter /></main>;
}
