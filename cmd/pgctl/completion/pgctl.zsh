#compdef pgctl
# zsh completion for pgctl. Put it into a folder of $fpath as _pgctl, or source it after compinit:
# pgctl completion zsh > /usr/local/share/zsh/site-functions/_pgctl
_pgctl() {
	local -a lines options
	local line word
	lines=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ ${lines[1]} == files ]]; then
		_files
		return
	fi
	for line in "${(@)lines[2,-1]}"; do
		word="${line%%$'\t'*}"
		# _describe wants WORD:MEANING, and a backslash before any other colon.
		options+=("${word//:/\\:}:${${line#"$word"}#$'\t'}")
	done
	_describe pgctl options
}
if [[ ${funcstack[1]} == _pgctl ]]; then
	_pgctl "$@"
else
	compdef _pgctl pgctl
fi
