"use client";
import { useEffect, useState } from "react";

// "alive" is written by a browser only, once the page's scripts have run.
export default function Counter() {
  const [state, set] = useState("dead");
  useEffect(() => set("alive"), []);
  return <p id="state">{state}</p>;
}
