#compdef howdah
# zsh completion for howdah:  source <(howdah completion zsh)
_howdah() {
  local -a offers
  local offer means
  while IFS=$'\t' read -r offer means; do
    offers+=("${offer//:/\\:}${means:+:$means}")
  done < <("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( ${#offers} )); then
    _describe howdah offers
  else
    _files
  fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _howdah "$@"
else
  compdef _howdah howdah
fi
