"""The pack's own socket types, one per engine type, and the menu it stands in."""

from comfy_api.latest import io

CATEGORY = "audio/bark"

BarkModels = io.Custom("BARK_MODELS")  # bark_engine.Bark
BarkSpeaker = io.Custom("BARK_SPEAKER")  # bark_engine.SpeakerPrompt
BarkSemantic = io.Custom("BARK_SEMANTIC")  # bark_engine.SemanticTokens: ids [T]
BarkCoarse = io.Custom("BARK_COARSE")  # bark_engine.CoarseTokens: codes [2, F]
BarkFine = io.Custom("BARK_FINE")  # bark_engine.FineTokens: codes [8, F]
BarkTrace = io.Custom("BARK_TRACE")  # bark_engine.Trace: what a stage knew about each token

BarkCodes = io.Custom("BARK_COARSE,BARK_FINE")  # either of the two that have codebooks
AnyBarkTokens = io.Custom("BARK_SEMANTIC,BARK_COARSE,BARK_FINE")  # any of the three
