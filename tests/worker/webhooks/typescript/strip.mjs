// Prints the JavaScript of the TypeScript on stdin; an error of its syntax ends with exit code 1.
import { readFileSync, writeFileSync } from "node:fs";
import ts from "typescript";

const source = readFileSync(0, "utf8");
const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
const { outputText, diagnostics } = ts.transpileModule(source, { compilerOptions: options, reportDiagnostics: true });
if (diagnostics.length) {
  console.error(ts.formatDiagnostics(diagnostics, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => ".", getNewLine: () => "\n" }));
  process.exit(1);
}
writeFileSync(1, outputText);
