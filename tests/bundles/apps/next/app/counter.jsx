"use client";
import dynamic from "next/dynamic";
import { useState } from "react";

const Details = dynamic(() => import("./details"));

export default function Counter() {
  const [count, setCount] = useState(0);
  return (
    <button title="SPILLWAY-BUNDLES-1" onClick={() => setCount(count + 1)}>
      {count}
      {count > 2 && <Details />}
    </button>
  );
}
