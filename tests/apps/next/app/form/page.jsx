import { redirect } from "next/navigation";

export const dynamic = "force-dynamic";

async function greet(data) {
  "use server";
  redirect(`/blog/${data.get("name")}`);
}

export default function Form() {
  return <form action={greet}><input name="name" /><button>Go</button></form>;
}
