# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_layerseal_global_optspecs
    string join \n vault= v/verbose h/help V/version
end

function __fish_layerseal_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_layerseal_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_layerseal_using_subcommand
    set -l cmd (__fish_layerseal_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c layerseal -n "__fish_layerseal_needs_command" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_needs_command" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_needs_command" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_needs_command" -s V -l version -d 'Print version'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "pull" -d 'Import an image into the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "seal" -d 'Write digests into an image that nobody has signed'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "sign" -d 'Seal an image and sign the seal'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "digest" -d 'Print the digest of everything that a seal signs, and the bytes to sign'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "attach" -d 'Make a seal from signatures that were made elsewhere'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "verify" -d 'Check an image against its seals'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "fetch" -d 'Bring the seals of images of the container store from their registries'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "prepare" -d 'Get images of the container store ready before they are started'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "mount" -d 'Verify an image and mount it'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "umount" -d 'Unmount an image'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "status" -d 'List what is mounted, and by whose word'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "push" -d 'Copy an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "export-signatures" -d 'Copy the seals of an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "inspect" -d 'Show an image and its seals'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "images" -d 'List the images in the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "tag" -d 'Give an image in the vault a name'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "untag" -d 'Take a name away'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "gc" -d 'Remove from the vault what no image needs'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "fsck" -d 'Read everything in the vault, and name what is damaged'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "keyring" -d 'The kernel\'s keyring for fs-verity signatures'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "policy" -d 'What this host asks of images'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "hook" -d 'OCI hooks: no container starts on a root that nobody verified'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "runtime" -d 'As OCI runtime: verify a container\'s root, and be the runtime that /etc/layerseal/runtime.toml names'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "doctor" -d 'What this host can enforce, and what it lacks'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l name -d 'Its name in the vault [default: HOST/NAME:TAG of a registry; of a layout its tag, or the directory\'s name for `latest`]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l binding -d 'Seals without a binding statement (of other tools) are refused, or compared with the layers every time' -r -f -a "required\t'A statement is required'
local\t'None is required'"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l identity -d 'The name that the seal must allow the image to run under' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l dates -d 'Whether a certificate outside its dates counts' -r -f -a "enforce\t'It does not'
ignore\t'It does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l seal -d 'Look for seals in this layout or repository too' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l algorithm -d 'Digest algorithm of the objects [default: that of the seals, else sha512]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l require-signature -d 'Import nothing that has no valid seal; what --trust asks for as well, in a word'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l inline -d 'Write the digests of config, layers and trees into annotations of the manifest instead'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l cert -d 'The signer\'s certificate, PEM or DER' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l key -d 'Its private key: a PEM file, or a URI that OpenSSL has a provider for, such as pkcs11:token=release;object=key' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l passphrase-file -d 'A file that holds the passphrase of the key, or the PIN of the token [default: asked for on the terminal]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l identity -d 'A name that the image may run under, without tag; several with commas, or repeated' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l sequence -d 'A number that grows with every release' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l format -d 'How the seal is written down' -r -f -a "metadata\t'One annotation for each role: who reads it makes the EROFS images from the layers (metadata.v1)'
erofs-alongside\t'An artifact that carries the EROFS images too (erofs-alongside.v1, which upstream has dropped)'
canonical\t'The same without them (canonical.v1)'"
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l platform -d 'The instance of a multi-platform image [default: every one]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l output -d 'Where to put the seal: a layout or a repository [default: beside the image]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l inline -d 'Write the seal into the image\'s own manifest, which makes it a new image under the same tag; for layouts'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l embed-cert -d 'Put the certificate into the signatures, for hosts that trust who issued it (trust.d/STORE/ca/); the kernel does not follow there'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l directory -d 'Instead of an image, a directory that one was unpacked or mounted to: prints what its merged digest would be' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l identity -d 'A name that the image may run under, without tag; several with commas, or repeated' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l sequence -d 'A number that grows with every release' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l write -d 'Write the files to be signed into this directory: ROLE for `fsverity sign`, ROLE.tosign for `openssl smime -sign`' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l signatures -d 'Directory of signatures, ROLE.sig in DER, with the file `binding` that `digest --write` made' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l format -d 'How the seal is written down' -r -f -a "metadata\t'One annotation for each role: who reads it makes the EROFS images from the layers (metadata.v1)'
erofs-alongside\t'An artifact that carries the EROFS images too (erofs-alongside.v1, which upstream has dropped)'
canonical\t'The same without them (canonical.v1)'"
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l trust -d 'Check the signatures against these certificates first' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l output -d 'Where to put the seal: a layout or a repository [default: beside the image]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l binding -d 'Seals without a binding statement (of other tools) are refused, or compared with the layers every time' -r -f -a "required\t'A statement is required'
local\t'None is required'"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l identity -d 'The name that the seal must allow the image to run under' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l dates -d 'Whether a certificate outside its dates counts' -r -f -a "enforce\t'It does not'
ignore\t'It does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l seal -d 'Look for seals in this layout or repository too' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l from -d 'Look into this repository [default: those that the image\'s names are of]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l all -d 'Every image of the container store; one without seals is told, and no error'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l seal -d 'Where seals are that the store does not have yet: an OCI layout, or a repository' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l all -d 'Every image of the container store; one that would be refused is told, and no error'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l seals-only -d 'Only bring the seals: the first start does the rest'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l binding -d 'Seals without a binding statement (of other tools) are refused, or compared with the layers every time' -r -f -a "required\t'A statement is required'
local\t'None is required'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l identity -d 'The name that the seal must allow the image to run under' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l dates -d 'Whether a certificate outside its dates counts' -r -f -a "enforce\t'It does not'
ignore\t'It does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l seal -d 'Look for seals in this layout or repository too' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l upper -d 'Directory for changes; without it the mount is read-only' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l work -d 'Empty directory on the same filesystem as --upper' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l algorithm -d 'Digest algorithm, for images without a seal' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l verity -d 'Whether the kernel checks every byte' -r -f -a "require\t'It does'
off\t'It does not: for hosts without fs-verity, and for tests'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l require-signature -d 'Mount nothing that has no valid seal; what --trust asks for as well, in a word'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l stack -d 'Mount the layers on top of each other instead of one image of them all: it shows the same'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l merged -d 'Mount composefs\' canonical tree, made for hosts that boot from an image: root\'s metadata are those of /usr, /run is empty, and of attributes there are capabilities alone'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l signatures -d 'With its seals'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l store -d 'Keep the images of this container store too [default: the one around the vault, and those of storage.conf]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l dry-run -d 'Remove nothing, and say what would be'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l tls-verify -d 'Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l authfile -d 'File with credentials [default: as containers-auth.json(5) has it]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l repair -d 'Make damaged files again from the layers; fetch layers that are damaged or missing from where the image came from; remove files that cannot be made again'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "restrict" -d 'Let no further certificate in until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "restrict" -d 'Let no further certificate in until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -f -a "check" -d 'Say what counts for an image, and which rule says so'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "check" -d 'Say what counts for an image, and which rule says so'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; its state is on the standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "createContainer" -d 'Give the root of a container the flags back that the runtime took away; in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "precreate" -d 'Put a verified mount in the place of podman\'s own; the configuration goes from the standard input to the standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "explain" -d 'Say what an exit code of a hook means, or the ID of a case'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l all -d 'List every case with that exit code'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; its state is on the standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "createContainer" -d 'Give the root of a container the flags back that the runtime took away; in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "precreate" -d 'Put a verified mount in the place of podman\'s own; the configuration goes from the standard input to the standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Say what an exit code of a hook means, or the ID of a case'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand runtime" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand runtime" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -l vault -d 'Where images are kept [default: layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -s v -l verbose -d 'Say more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "pull" -d 'Import an image into the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "seal" -d 'Write digests into an image that nobody has signed'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "sign" -d 'Seal an image and sign the seal'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "digest" -d 'Print the digest of everything that a seal signs, and the bytes to sign'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "attach" -d 'Make a seal from signatures that were made elsewhere'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "verify" -d 'Check an image against its seals'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "fetch" -d 'Bring the seals of images of the container store from their registries'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "prepare" -d 'Get images of the container store ready before they are started'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "mount" -d 'Verify an image and mount it'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "umount" -d 'Unmount an image'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "status" -d 'List what is mounted, and by whose word'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "push" -d 'Copy an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "export-signatures" -d 'Copy the seals of an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "inspect" -d 'Show an image and its seals'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "images" -d 'List the images in the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "tag" -d 'Give an image in the vault a name'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "untag" -d 'Take a name away'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "gc" -d 'Remove from the vault what no image needs'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "fsck" -d 'Read everything in the vault, and name what is damaged'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "keyring" -d 'The kernel\'s keyring for fs-verity signatures'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "policy" -d 'What this host asks of images'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "hook" -d 'OCI hooks: no container starts on a root that nobody verified'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "runtime" -d 'As OCI runtime: verify a container\'s root, and be the runtime that /etc/layerseal/runtime.toml names'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "doctor" -d 'What this host can enforce, and what it lacks'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare mount umount status push export-signatures inspect images tag untag gc fsck keyring policy hook runtime doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "restrict" -d 'Let no further certificate in until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "check" -d 'Say what counts for an image, and which rule says so'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; its state is on the standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "createContainer" -d 'Give the root of a container the flags back that the runtime took away; in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "precreate" -d 'Put a verified mount in the place of podman\'s own; the configuration goes from the standard input to the standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "explain" -d 'Say what an exit code of a hook means, or the ID of a case'
