"""Tasks whose samples are boxes in key frames (AVA): what each person does, read from the tokens of the whole frame."""
