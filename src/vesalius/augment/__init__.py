"""From a table of real images to an answer: fine-tune, generate, judge, in one resumable command."""
