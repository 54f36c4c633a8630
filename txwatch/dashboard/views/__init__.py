"""The pages. Not in a folder named `pages`: Streamlit would take each for a script of its own."""
