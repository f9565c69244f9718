// Says which texts of a list could not be spoken. Bark Text to Speech sends the others on and reports those as text;
// without this the report would only be in the log. It stays until it is closed: a long list is seldom watched.

import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "bark-inside-out.FailedTexts",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "BarkTextToSpeech") {
      return;
    }
    const before = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments);
      if (output?.text?.length) {
        app.extensionManager.toast.add({ severity: "warn", summary: this.title, detail: output.text.join("\n") });
      }
    };
  },
});
