// Says which texts of a list could not be spoken. Bark Text to Speech sends the others on and reports those to the page;
// without this the report would only be in the log. It comes whatever workflow is shown by then, and stays until it is
// closed: a long list is seldom watched. What comes from the cache was said when it was made.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NAME = "Bark Text to Speech";
const said = new Set(); // reports, for as long as the page is there; each names its texts and what was wrong with them
let cached = { prompt_id: null, nodes: [] }; // of the prompt that runs: nodes that are not run again

api.addEventListener("execution_cached", ({ detail }) => {
  cached = detail ?? cached;
});

api.addEventListener("executed", ({ detail }) => {
  const report = detail?.output?.bark_failed?.join("\n");
  const again = detail?.prompt_id === cached.prompt_id && cached.nodes?.includes(detail.node);
  if (report && !(again && said.has(report))) {
    said.add(report);
    app.extensionManager.toast.add({ severity: "warn", summary: NAME, detail: report });
  }
});
