// Runs methods of the npm client against a server: node npm_client.mjs URL LOGIN PASSWORD < steps > what they gave.
//
// A step is [api, method, model or null, arguments]; an argument with a model is made of it, as the client's README does.
// Prints a line of JSON for each: {"answer": ...} as the client's own classes hold it, or {"status": ..., "body": ...}.
import { readFileSync } from "node:fs";
import * as client from "dataforseo-client";

const [url, login, password] = process.argv.slice(2);
const authorization = "Basic " + Buffer.from(`${login}:${password}`).toString("base64");
const http = {
  fetch: (address, init) => fetch(address, { ...init, headers: { ...init?.headers, Authorization: authorization } }),
};

for (const [api, method, model, given] of JSON.parse(readFileSync(0, "utf8"))) {
  const made = model ? given.map((list) => list.map((fields) => Object.assign(new client[model](), fields))) : given;
  try {
    const answer = await new client[api](url, http)[method](...made);
    console.log(JSON.stringify({ answer, kind: answer?.constructor.name }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.status, body: error.response, why: String(error.message) }));
  }
}
