#!/usr/bin/env node
/** The one-shot: `lpuit model.onnx` is `lpu build model.onnx`, with the image beside the model. */

import { ONE_SHOT } from "./commands.js";
import { main } from "./main.js";

await main("lpuit", ONE_SHOT, process.argv.slice(2));
