// Reads a JSON list of LogQL queries from standard input; writes, for each, what its syntax error is, or null.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-logql";

const complaints = JSON.parse(readFileSync(0, "utf8")).map((query) => {
  let complaint = null;
  parser.parse(query).iterate({
    enter: (node) => {
      if (node.type.isError) complaint ??= `not LogQL at character ${node.from}: ${query.slice(node.from) || "it ends too early"}`;
    },
  });
  return complaint;
});
process.stdout.write(JSON.stringify(complaints));
