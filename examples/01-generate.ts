/** Completes a list of prompts. Without a name, `LLM.load` opens the bundled model, which cleans table cells. */
import { LLM } from 'flexllmgen';

await using llm = await LLM.load();

const dates = ['27th of October, 1954', '1961.08.27', '10/14/1996'];
const results = await llm.generate(dates.map((date) => `Task: Write the date as YYYY-MM-DD\nInput: ${date}\nOutput:`));

for (const { index, text, finishReason } of results) console.log(`${dates[index]} -> ${text.trim()} (${finishReason})`);
