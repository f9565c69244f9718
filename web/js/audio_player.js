// Gives this pack's nodes with sound files the audio player that ComfyUI's own Save Audio and Load Audio have.
//
// The front end builds a player for every input of type AUDIO_UI, but adds that input to its own nodes only. It looks
// the player up by the name "audioUI" when it restores earlier results, so the input must be called that. The widget
// is kept out of saved workflows, and here out of the prompt as well: newer front ends would send the address of the
// last sound along, the server would take that for a change, and each Run would save the same sound again.
//
// A sound that is chosen in a list is asked for at /view, which knows ComfyUI's own folders only. The pack's example lies
// among its workflows, which ComfyUI serves elsewhere.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODES_WITH_PLAYER = ["BarkSaveAudio", "BarkLoadAudio"];
const EXAMPLE = " [example]"; // behind the names of the pack's own sounds, as in `sound_shelves`
const PACK = new URL(import.meta.url).pathname.split("/").at(-3); // the name of its folder, as it stands in addresses

app.registerExtension({
  name: "bark-inside-out.AudioPlayer",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (NODES_WITH_PLAYER.includes(nodeData.name) && nodeData.input?.required) {
      const { upload, ...inputs } = nodeData.input.required;
      // The button that uploads wants the player to be there before it.
      nodeData.input.required = { ...inputs, audioUI: ["AUDIO_UI", {}], ...(upload && { upload }) };
    }
  },

  nodeCreated(node) {
    const player = NODES_WITH_PLAYER.includes(node.comfyClass) && node.widgets?.find(({ name }) => name === "audioUI");
    if (player) {
      player.options = { ...player.options, serialize: false };
      if (node.comfyClass === "BarkLoadAudio") {
        playExamples(node, player);
      }
    }
  },
});

/** Correct the address where an example is chosen, at once: the browser asks for the last one of a task alone. */
function playExamples(node, player) {
  const chosen = node.widgets.find(({ name }) => name === "audio");
  const correct = () => {
    if (chosen.value?.endsWith(EXAMPLE)) {
      const file = encodeURIComponent(chosen.value.slice(0, -EXAMPLE.length));
      player.element.src = player.value = api.apiURL(`/workflow_templates/${PACK}/${file}`);
    }
  };
  // Whenever the front end sets its own, and when the node comes to the graph: Nodes 2.0 keeps no address before.
  for (const [owner, name] of [[chosen, "callback"], [node, "onGraphConfigured"], [node, "onAdded"]]) {
    const before = owner[name];
    owner[name] = function (...given) {
      before?.apply(this, given);
      correct();
    };
  }
  correct();
}
