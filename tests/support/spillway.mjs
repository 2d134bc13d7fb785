// The real program, as a process of its own.
import { spawn } from "node:child_process";
import readline from "node:readline";

/**
 * Starts `spillway ARGS…` and waits until it says that it listens: `{ listen, admin, child }`.
 * SPILLWAY_BIN says where the program is.
 */
export function startProgram(args, env) {
  const child = spawn(process.env.SPILLWAY_BIN, [...args, "--admin", "127.0.0.1:0"], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "pipe"],
  });
  const lines = readline.createInterface({ input: child.stderr });
  return new Promise((listening, failed) => {
    child.once("error", failed);
    child.once("exit", (code) => failed(new Error(`spillway ${args[0]} ended: ${code}`)));
    lines.on("line", (line) => {
      const said = JSON.parse(line);
      if (said.message !== "listening") return;
      child.removeAllListeners("exit");
      listening({ listen: said.listen, admin: said.admin, child });
    });
  });
}
