// Reads a JSON list of flowcharts from stdin, writes a JSON list of what Mermaid understood: for each chart either
// {error} or {type, nodes: {id: [label, classes]}, edges: [[from, to]], subgraphs}.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("<!doctype html><body></body>");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid"); // after the document is there

async function understood(text) {
  try {
    const { diagramType: type } = await mermaid.parse(text);
    const { db } = await mermaid.mermaidAPI.getDiagramFromText(text);
    return {
      type,
      nodes: Object.fromEntries([...db.getVertices()].map(([id, node]) => [id, [node.text, node.classes]])),
      edges: db.getEdges().map((edge) => [edge.start, edge.end]),
      subgraphs: db.getSubGraphs().length,
    };
  } catch (error) {
    return { error: String(error.message ?? error) };
  }
}

const answers = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) answers.push(await understood(text));
console.log(JSON.stringify(answers));
