"""The pages, one a module. Not in a folder named `pages`: Streamlit would take each for a script of its own."""
