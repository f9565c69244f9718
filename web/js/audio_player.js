// Gives this pack's nodes with sound files the audio player that ComfyUI's own Save Audio and Load Audio have.
//
// The front end builds a player for every input of type AUDIO_UI, but adds that input to its own nodes only. It looks
// the player up by the name "audioUI" when it restores earlier results, so the input must be called that. The widget
// is kept out of saved workflows, and here out of the prompt as well: newer front ends would send the address of the
// last sound along, the server would take that for a change, and each Run would save the same sound again.

import { app } from "../../../scripts/app.js";

const NODES_WITH_PLAYER = ["BarkSaveAudio", "BarkLoadAudio"];

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
    }
  },
});
